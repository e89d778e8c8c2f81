# frozen_string_literal: true

# Found before Puppet's own provider of that name, which is for machines that systemd runs on. In an image it is as
# good: enabling and masking are work on files, and nothing is started anyway.
load File.expand_path('../../provider/service/systemd.rb', Puppet::Type.method(:newtype).source_location.first)

Puppet::Type.type(:service).provider(:systemd).define_singleton_method(:suitable?) do |short = true|
  short ? !Puppet::Util.which('systemctl').nil? : {}
end
