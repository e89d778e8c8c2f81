# What a step adds to apt's configuration: sources with their keys, pins, answers. Read by ./run.

# Files that are there for this step alone, and folders of lists that they led to: removed at its end.
passing=/run/bakehouse-apt-passing

value() { if [ -e "$1" ]; then cat "$1"; fi; }

words() { if [ -e "$1" ]; then tr '\n' ' ' <"$1" | sed 's/ *$//'; fi; }

# Puts what comes on standard input at `$1`; where `$2` is false, for this step alone.
put() {
    mkdir -p "${1%/*}"
    if [ "$2" = false ]; then
        [ ! -e "$1" ] || fail "the image has $1 already: give what is to be gone after the step another name"
        printf '%s\n' "$1" >>"$passing"
    fi
    cat >"$1"
    chmod 0644 "$1"
}

# apt's name for the lists of an address, as far as it is the same for all of them.
lists_of() { printf '%s\n' "$1" | sed 's,^[a-z+]*:/*,,; s,/*$,,; s,_,%5f,g; s,/,_,g'; }

remove_passing() {
    [ -e "$passing" ] || return 0
    while IFS= read -r file; do
        case $file in
        /*) rm -f "$file" ;;
        ?*) rm -f "/var/lib/apt/lists/$file"_* ;;
        esac
    done <"$passing"
    rm -f "$passing"
}

repository() {
    name=$(value "$1/name") keep=$(value "$1/keep")
    if [ -e "$1/signed_by" ]; then
        signed=$(value "$1/signed_by")
        [ -e "$signed" ] || fail "repository $name: the image has no $signed"
    else
        if [ -e "$1/key" ]; then key=$(value "$1/key"); else key=$1/key_text; fi
        if grep -q -e '-----BEGIN PGP PUBLIC KEY BLOCK-----' "$key"; then end=asc; else end=gpg; fi
        signed=/etc/apt/keyrings/$name.$end
        put "$signed" "$keep" <"$key"
    fi
    {
        printf 'Types: %s\n' "$(words "$1/types")"
        printf 'URIs: %s\n' "$(words "$1/uris")"
        printf 'Suites: %s\n' "$(words "$1/suites")"
        if [ -e "$1/components" ]; then printf 'Components: %s\n' "$(words "$1/components")"; fi
        if [ -e "$1/architectures" ]; then printf 'Architectures: %s\n' "$(words "$1/architectures")"; fi
        printf 'Signed-By: %s\n' "$signed"
    } | put "/etc/apt/sources.list.d/$name.sources" "$keep"
    if [ "$keep" = false ]; then
        while IFS= read -r uri; do lists_of "$uri" >>"$passing"; done <"$1/uris"
    fi
}

pin() {
    {
        printf 'Package: %s\n' "$(value "$1/package")"
        printf 'Pin: %s\n' "$(value "$1/pin")"
        printf 'Pin-Priority: %s\n' "$(value "$1/priority")"
    } >"$passing.pin"
    # Named by its content: the same pin in two steps is one.
    put "/etc/apt/preferences.d/pin-$(cksum <"$passing.pin" | cut -d' ' -f1).pref" "$(value "$1/keep")" <"$passing.pin"
    rm -f "$passing.pin"
}

# Has apt take a suite of security updates for the best until $security is removed: what another suite has newer would
# else hide what closes a hole. By suite, codename or label: they differ in which of them says so.
prefer_security() {
    security=/etc/apt/preferences.d/00-security-alone.pref
    for word in a=*-security n=*-security l=*-Security; do
        printf 'Package: *\nPin: release %s\nPin-Priority: 995\n\n' "$word"
    done | put "$security" false
}

# Calls `$2` with the folder of each table of the parameter `$1`.
each() {
    number=0
    while [ -d "$params/$1/$number" ]; do
        "$2" "$params/$1/$number"
        number=$((number + 1))
    done
}

# The image's sources as an archive of snapshots has them at `$1`: beside the image's, and for this step alone.
snapshot_sources() {
    dated=/run/bakehouse-apt-sources
    rm -rf "$dated"
    mkdir -p "$dated"
    if [ -e /etc/apt/sources.list ]; then cp /etc/apt/sources.list "$dated/00image.list"; fi
    for file in /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        if [ -e "$file" ]; then cp "$file" "$dated/"; fi
    done
    debian=$(scalar snapshot_url)
    if [ -z "$debian" ]; then
        # Without certificates in the image no https; the signatures of the archive hold all the same.
        if [ -e /etc/ssl/certs/ca-certificates.crt ]; then debian=https; else debian=http; fi
        debian="$debian://snapshot.debian.org/archive/{archive}/{snapshot}/"
        ubuntu='https://snapshot.ubuntu.com/ubuntu/{snapshot}/'
    else
        ubuntu=$debian
    fi
    of() { printf '%s\n' "$1" | sed "s,{archive},$2,g; s,{snapshot},$3,g; s/[&#\\\\]/\\\\&/g"; }
    before=$(cat "$dated"/* 2>/dev/null | cksum)
    for file in "$dated"/*; do
        [ -e "$file" ] || continue
        sed -E -i \
            -e "s#https?://security\.debian\.org/?(debian-security)?/?([[:space:]]|\$)#$(of "$debian" debian-security "$1")\2#g" \
            -e "s#https?://[a-z0-9.-]+\.debian\.org/debian-security/?([[:space:]]|\$)#$(of "$debian" debian-security "$1")\1#g" \
            -e "s#https?://[a-z0-9.-]+\.debian\.org/debian/?([[:space:]]|\$)#$(of "$debian" debian "$1")\1#g" \
            -e "s#mirror\+file:/+etc/apt/mirrors/debian-security\.list#$(of "$debian" debian-security "$1")#g" \
            -e "s#mirror\+file:/+etc/apt/mirrors/debian\.list#$(of "$debian" debian "$1")#g" \
            -e "s#https?://[a-z0-9.-]*(archive|security)\.ubuntu\.com/ubuntu/?([[:space:]]|\$)#$(of "$ubuntu" ubuntu "$1")\2#g" \
            "$file"
    done
    [ "$before" != "$(cat "$dated"/* 2>/dev/null | cksum)" ] ||
        fail 'snapshot: no source of the image is of the archives of Debian or Ubuntu'
}
