# keeper.sh GENERATION_DIRECTORY IDLE_SECONDS PROGRAM ARGUMENTS...
#
# Runs the shared Postgres of one generation and ends it when nobody uses it any more. Every user
# holds a shared lock on `users`, which the kernel releases when that process is gone, however it
# went. An exclusive lock can be had only when there is none left.
generation=$1
idle_seconds=$2
shift 2
exec 8<"$generation/keeper" 9<"$generation/users"
# Tells others that this generation has a keeper; see `sweep` in shared.rs.
flock -x 8
"$@" </dev/null >>"$generation/log" 2>&1 8<&- 9<&- &
server=$!
trap '' HUP INT QUIT TERM

while :; do
    flock -x 9
    flock -u 9
    # Test processes follow each other closely: the next one is often a moment away.
    sleep "$idle_seconds"
    flock -n -x 9 && break
done

# Holding the lock: whoever comes now waits, finds the directory gone, and starts a new server.
kill -QUIT "$server" 2>/dev/null
wait "$server"
rm -rf "$generation"
