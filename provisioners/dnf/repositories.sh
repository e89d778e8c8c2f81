# Repositories that a step adds, with their keys. Read by ./run.

# Files that are there for this step alone, removed at its end.
passing=/run/bakehouse-dnf-passing

value() { if [ -e "$1" ]; then cat "$1"; fi; }

words() { if [ -e "$1" ]; then tr '\n' ' ' <"$1" | sed 's/ *$//'; fi; }

put() {
    mkdir -p "${1%/*}"
    if [ "$2" = false ]; then
        [ ! -e "$1" ] || fail "the image has $1 already: give what is to be gone after the step another name"
        printf '%s\n' "$1" >>"$passing"
    fi
    cat >"$1"
    chmod 0644 "$1"
}

keys() { rpm -q gpg-pubkey 2>/dev/null | grep '^gpg-pubkey-' | sort || true; }

# Removes what was for this step alone: files, what zypper noted of them, and the keys that were not there before.
remove_passing() {
    if [ -e "$passing.keys" ]; then
        for key in $(keys); do
            grep -qxF "$key" "$passing.keys" && continue
            rpm -e --allmatches "$key"
            rm -f "/var/cache/zypp/pubkeys/$key.key"
        done
        rm -f "$passing.keys"
    fi
    [ -e "$passing" ] || return 0
    while IFS= read -r file; do
        rm -f "$file"
        case $file in
        /etc/zypp/repos.d/*)
            name=${file##*/} name=${name%.repo}
            rm -rf "/var/cache/zypp/raw/$name" "/var/cache/zypp/solv/$name"
            ;;
        esac
    done <"$passing"
    rm -f "$passing"
}

repository() {
    name=$(value "$1/name") keep=$(value "$1/keep") signed=
    if [ -e "$1/key" ]; then key=$(value "$1/key"); else key=$1/key_text; fi
    if [ -e "$key" ]; then
        signed=/etc/pki/rpm-gpg/RPM-GPG-KEY-$name
        put "$signed" "$keep" <"$key"
        # Now, and known before the keys of passing repositories: nothing asks about it later.
        if [ "$keep" != false ]; then rpm --import "$signed"; fi
    fi
    case $manager in
    zypper)
        folder=/etc/zypp/repos.d
        if [ -e "$1/exclude" ]; then fail "zypper does not know a repository's exclude: it needs dnf or yum"; fi
        ;;
    *) folder=/etc/yum.repos.d ;;
    esac
    digit() { if [ "$(value "$1")" = true ]; then echo 1; else echo 0; fi; }
    {
        printf '[%s]\nname=%s\nenabled=1\n' "$name" "$name"
        for kind in baseurl metalink mirrorlist; do
            if [ -e "$1/$kind" ]; then printf '%s=%s\n' "$kind" "$(words "$1/$kind")"; fi
        done
        printf 'gpgcheck=%s\n' "$(digit "$1/gpgcheck")"
        printf 'repo_gpgcheck=%s\n' "$(digit "$1/repo_gpgcheck")"
        if [ -n "$signed" ]; then printf 'gpgkey=file://%s\n' "$signed"; fi
        if [ -e "$1/priority" ]; then printf 'priority=%s\n' "$(value "$1/priority")"; fi
        if [ -e "$1/exclude" ]; then printf 'exclude=%s\n' "$(words "$1/exclude")"; fi
        if [ "$manager" = zypper ]; then
            # Otherwise zypper takes a package without a signature where the metadata has a good one.
            printf 'pkg_gpgcheck=%s\n' "$(digit "$1/gpgcheck")"
            # Otherwise what was once read of the repository is never read again.
            printf 'autorefresh=1\n'
        fi
    } | put "$folder/$name.repo" "$keep"
}

repositories() {
    number=0
    while [ -d "$params/repositories/$number" ]; do
        repository "$params/repositories/$number"
        number=$((number + 1))
    done
    if [ -e "$passing" ]; then
        keys >"$passing.keys"
        while IFS= read -r file; do
            case $file in /etc/pki/rpm-gpg/*) rpm --import "$file" ;; esac
        done <"$passing"
    fi
}
