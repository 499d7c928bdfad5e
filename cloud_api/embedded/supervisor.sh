# Starts a PostgreSQL server, says `ready`, and stops the server when its own standard input ends.
#
#   sh supervisor.sh PG_CTL CLUSTER LOG SERVER_OPTIONS START_TIMEOUT_S STOP_MODE STOP_TIMEOUT_S
#
# The owner of the server holds the other end of standard input. The kernel closes it however the owner ends, kill -9 included,
# so the server never outlives its owner. Standard error is the lock file of the data folder: nobody else takes the folder before this
# shell has ended. The programs called below must not inherit it, or the server would hold the lock as well.
pg_ctl=$1 cluster=$2 log=$3 options=$4 start_timeout_s=$5 stop_mode=$6 stop_timeout_s=$7

stop() {
  "$pg_ctl" stop -w -t "$stop_timeout_s" -D "$cluster" -m "$1" >/dev/null 2>&1 </dev/null
}

"$pg_ctl" start -w -t "$start_timeout_s" -D "$cluster" -l "$log" -o "$options" 2>&1 </dev/null || { stop immediate; exit 1; }
echo ready
read -r _
stop "$stop_mode" || stop immediate
