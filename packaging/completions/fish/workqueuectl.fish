# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_workqueuectl_global_optspecs
    string join \n u/url= s/socket= json h/help V/version
end

function __fish_workqueuectl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_workqueuectl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_workqueuectl_using_subcommand
    set -l cmd (__fish_workqueuectl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -s V -l version -d 'Print version'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "submit" -d 'Submit a task, or a stream of them; prints the id'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "list" -d 'List tasks in the order in which they are handed out'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "show" -d 'Show tasks with all that is known of them'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "cancel" -d 'Cancel tasks that are not leased'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "retry" -d 'Bring dead tasks back, with all their attempts before them'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "purge" -d 'Cancel all tasks of a state'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "queues" -d 'Show the queues in numbers'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "workers" -d 'Show who claims tasks, and what they hold'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "status" -d 'Say on one screen what is well, what is not, and what to do about it'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "top" -d 'Show queues and workers, again each second'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "events" -d 'Show what happens, as it happens, until interrupted'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "rejected" -d 'Show dropped files that could not be taken in, and why'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "pause" -d 'Hand out nothing, from one queue or from all'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "resume" -d 'Hand out again'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "drain" -d 'Take no new tasks, in one queue or in all; workers go on'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "undrain" -d 'Take new tasks again'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "config" -d 'Show the daemon\'s settings, and where each came from'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "reload" -d 'Have the daemon read its settings again; fails with the reason when they are wrong, and nothing has changed'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "rescan" -d 'Have the daemon look through the task directory now'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "checkpoint" -d 'Have the daemon write a checkpoint now'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "check" -d 'Look through a data directory without a daemon'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "completions" -d 'Print the completion script for a shell'
complete -c workqueuectl -n "__fish_workqueuectl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -s j -l json-payload -d 'The payload, as JSON; "-" reads it from standard input' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -s f -l file -d 'The payload is the text of FILE, unchanged' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -l ndjson -d 'Submit many: each line of FILE is a task object as the API takes it; "-" is standard input' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -s q -l queue -d 'Into which queue [default: default]' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -s p -l priority -d 'A higher number is handed out first [default: 100]' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -l in -d 'Not before so long from now: 90s, 10m, 1h30m, 2d' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -l at -d 'Not before this moment: Unix seconds, 2026-11-24T20:00:00Z, or "2026-11-24 20:00" local time' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -l id -d 'A UUID of your own, so that submitting again is safe' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -l unique-key -d 'At most one unfinished task per key and queue; the one that is there is answered' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -l max-attempts -d 'Attempts until it is dead [default: 5]' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -l lease -d 'How long its claims last without a sign of life [default: 60s]' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand submit" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand list" -s q -l queue -d 'Only this queue' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand list" -s t -l state -d 'Only this state' -r -f -a "ready\t''
scheduled\t''
leased\t''
dead\t''"
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand list" -s n -l limit -d 'At most so many' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand list" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand list" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand list" -s a -l all -d 'All of them'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand list" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand list" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand show" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand show" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand show" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand show" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand cancel" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand cancel" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand cancel" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand cancel" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand retry" -s q -l queue -d 'With --dead: only those of this queue' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand retry" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand retry" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand retry" -l dead -d 'All dead tasks'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand retry" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand retry" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand purge" -s q -l queue -d 'Only this queue' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand purge" -s t -l state -d 'Tasks in this state; leased tasks are their workers\'' -r -f -a "dead\t''
ready\t''
scheduled\t''"
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand purge" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand purge" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand purge" -s y -l yes -d 'Do not ask'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand purge" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand purge" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand queues" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand queues" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand queues" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand queues" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand workers" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand workers" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand workers" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand workers" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand status" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand status" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand status" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand status" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand top" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand top" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand top" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand top" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand events" -s q -l queue -d 'Only those of this queue' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand events" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand events" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand events" -l follow -d 'Go on until interrupted; there is nothing else that this verb could do'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand events" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand events" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand rejected" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand rejected" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand rejected" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand rejected" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand pause" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand pause" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand pause" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand pause" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand resume" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand resume" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand resume" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand resume" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand drain" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand drain" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand drain" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand drain" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand undrain" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand undrain" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand undrain" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand undrain" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand config" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand config" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand config" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand config" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand reload" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand reload" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand reload" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand reload" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand rescan" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand rescan" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand rescan" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand rescan" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand checkpoint" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand checkpoint" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand checkpoint" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand checkpoint" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand check" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand check" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand check" -l repair -d 'Set damaged pieces of the journal aside (as NAME.damaged, nothing is deleted), so that the daemon starts again'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand check" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand completions" -s u -l url -d 'Speak to the daemon at URL: http://HOST:PORT, or unix:PATH' -r
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand completions" -s s -l socket -d 'Speak to the daemon at this Unix socket' -r -F
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand completions" -l json -d 'Print JSON: what the API answers; one line for each task or event'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand completions" -s h -l help -d 'Print help'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "submit" -d 'Submit a task, or a stream of them; prints the id'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "list" -d 'List tasks in the order in which they are handed out'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "show" -d 'Show tasks with all that is known of them'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "cancel" -d 'Cancel tasks that are not leased'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "retry" -d 'Bring dead tasks back, with all their attempts before them'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "purge" -d 'Cancel all tasks of a state'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "queues" -d 'Show the queues in numbers'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "workers" -d 'Show who claims tasks, and what they hold'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "status" -d 'Say on one screen what is well, what is not, and what to do about it'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "top" -d 'Show queues and workers, again each second'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "events" -d 'Show what happens, as it happens, until interrupted'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "rejected" -d 'Show dropped files that could not be taken in, and why'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "pause" -d 'Hand out nothing, from one queue or from all'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "resume" -d 'Hand out again'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "drain" -d 'Take no new tasks, in one queue or in all; workers go on'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "undrain" -d 'Take new tasks again'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "config" -d 'Show the daemon\'s settings, and where each came from'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "reload" -d 'Have the daemon read its settings again; fails with the reason when they are wrong, and nothing has changed'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "rescan" -d 'Have the daemon look through the task directory now'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "checkpoint" -d 'Have the daemon write a checkpoint now'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "check" -d 'Look through a data directory without a daemon'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "completions" -d 'Print the completion script for a shell'
complete -c workqueuectl -n "__fish_workqueuectl_using_subcommand help; and not __fish_seen_subcommand_from submit list show cancel retry purge queues workers status top events rejected pause resume drain undrain config reload rescan checkpoint check completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
