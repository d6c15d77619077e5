# watchdog.sh RUN_DIRECTORY
#
# Leads the process group that every server of one test process joins, and outlives that process
# by the time it takes to clean up. Its standard input is a pipe whose other end only the test
# process holds, so `read` returns when that process is gone, however it went.
trap '' HUP INT QUIT TERM
read -r _

# Everything was stopped in an orderly way: there is nothing left to do.
rmdir "$1" 2>/dev/null && exit 0

# A stopped process acts on nothing but KILL. Backends of a paused Postgres are in sessions of
# their own, where a signal to our group does not reach them; their ids were noted.
for paused in "$1"/*/paused; do
    [ -f "$paused" ] && kill -CONT $(cat "$paused") 2>/dev/null
done
kill -CONT 0
# INT asks Redis and Postgres to stop; QUIT asks Postgres to stop at once but to give back its
# System V shared memory, of which a machine has only some thousand segments.
kill -INT 0
sleep 0.5
kill -QUIT 0
sleep 0.5
rm -rf "$1"
kill -KILL 0
