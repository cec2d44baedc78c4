#!/bin/sh
# Installs the brokers that tests/brokers needs, where it may: mosquitto, and ActiveMQ with its MQTT codec and a Java.
# Says in one line what it did or why it could not. Exits 0, or 1 with --require when something is missing afterwards.
# Services that come with newly installed packages are not left running; those that were there are not touched.
set -u

require=no
case "${1-}" in
'') ;;
--require) require=yes ;;
*)
    echo "usage: $0 [--require]" >&2
    exit 2
    ;;
esac

PATH="$PATH:/usr/sbin:/sbin"
log="${TMPDIR:-/tmp}/switchgear-install-brokers.$$.log"

missing() { # the packages that are still needed; the programs count, whatever brought them
    command -v mosquitto >/dev/null || printf ' mosquitto'
    [ -e /usr/share/activemq/bin/activemq.jar ] || printf ' activemq'
    [ -e /usr/share/java/mqtt-client.jar ] || printf ' libmqtt-client-java'
    command -v java >/dev/null || printf ' default-jre-headless'
}

finish() {
    echo "install_brokers: $1"
    if [ "$require" = yes ] && [ -n "$(missing)" ]; then
        exit 1
    fi
    exit 0
}

packages=$(missing)
[ -n "$packages" ] || finish "mosquitto, ActiveMQ and Java are there; nothing to do"
command -v apt-get >/dev/null || finish "missing:$packages; there is no apt-get here, install them by hand"

if [ "$(id -u)" -eq 0 ]; then
    as_root=''
elif sudo -n true 2>/dev/null; then
    as_root='sudo -n'
else
    finish "missing:$packages; only root may install them: sudo apt-get install --no-install-recommends$packages"
fi

# While we install, this file tells invoke-rc.d not to start services (101: forbidden by policy). Where the machine has
# a policy of its own, that one stays, and what it lets start is stopped below.
policy=/usr/sbin/policy-rc.d
ours=no
cleanup() {
    if [ "$ours" = yes ]; then
        $as_root rm -f "$policy"
        ours=no
    fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ ! -e "$policy" ] && printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null 2>&1; then
    ours=yes
    $as_root chmod 755 "$policy"
fi

install() {
    # shellcheck disable=SC2086  # both are lists of words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o DPkg::Lock::Timeout=120 \
        install --no-remove --no-install-recommends $packages </dev/null >>"$log" 2>&1
}

# The package lists may be absent or old: one update, and only when the first try failed.
if ! install; then
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update </dev/null >>"$log" 2>&1
    install
fi
cleanup

for service in mosquitto activemq; do
    case "$packages " in
    *" $service "*)
        if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
            $as_root systemctl disable --now --quiet "$service" >>"$log" 2>&1
        elif [ -x "/etc/init.d/$service" ] && command -v "$service" >/dev/null; then
            $as_root "/etc/init.d/$service" stop </dev/null >>"$log" 2>&1
        fi
        ;;
    esac
done

left=$(missing)
[ -z "$left" ] || finish "still missing:$left; apt-get's words are in $log"
rm -f "$log"
finish "installed$packages"
