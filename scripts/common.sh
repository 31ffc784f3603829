# What the scripts share: stopping with one message, and one builder at a time. Sourced by bash.

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 2
}

say() { printf '%s\n' "$*" >&2; }

# Wait until nobody else holds LOCK, then hold it until release_lock or the end of this process.
# With flock the kernel frees it, whatever the end was; without, a lock whose owner on this host is gone is taken over.
# A script that calls this runs release_lock when it ends.
hold_lock() {
  LOCK=$1
  if command -v flock >/dev/null; then
    exec 9>"$LOCK" || fail "cannot write $LOCK: is the folder writable?"
    flock 9
    return
  fi
  local me owner
  me="$(hostname):$$"
  until mkdir "$LOCK.d" 2>/dev/null; do
    [ -w "$(dirname "$LOCK")" ] || fail "cannot write $LOCK.d: is the folder writable?"
    owner=$(cat "$LOCK.d/owner" 2>/dev/null || true)
    if [ "${owner%%:*}" = "${me%%:*}" ] && ! kill -0 "${owner##*:}" 2>/dev/null; then
      rm -rf "$LOCK.d"
    else
      sleep 1
    fi
  done
  printf '%s\n' "$me" >"$LOCK.d/owner"
}

release_lock() {
  [ -n "${LOCK:-}" ] || return 0
  if command -v flock >/dev/null; then exec 9>&-; else rm -rf "$LOCK.d"; fi
  LOCK=
}
