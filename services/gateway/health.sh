#!/bin/sh
# Exits 0 when the portal answers over TLS, else 1 with one line of reason. Whether the certificate
# is to be trusted is not asked: it may be the lab's own, and is not made for `localhost` then.
# Alpine has busybox's wget, Debian GNU's; both know these options.
if reason=$(wget -q -T 5 -O /dev/null --no-check-certificate https://localhost:8443/health 2>&1); then
    echo healthy
else
    echo "the portal does not answer over TLS on port 8443: $(echo "$reason" | tail -n 1)"
    exit 1
fi
