# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_twinward_global_optspecs
    string join \n config= json h/help V/version
end

function __fish_twinward_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_twinward_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_twinward_using_subcommand
    set -l cmd (__fish_twinward_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c twinward -n "__fish_twinward_needs_command" -l config -d 'Configuration file; drop-ins are read from `conf.d` beside it' -r -F
complete -c twinward -n "__fish_twinward_needs_command" -l json -d 'Print JSON lines instead of tables'
complete -c twinward -n "__fish_twinward_needs_command" -s h -l help -d 'Print help'
complete -c twinward -n "__fish_twinward_needs_command" -s V -l version -d 'Print version'
complete -c twinward -n "__fish_twinward_needs_command" -f -a "run" -d 'Run the agent'
complete -c twinward -n "__fish_twinward_needs_command" -f -a "doctor" -d 'Walk everything the agent needs, from the configuration to the twin, and say what to do about each fault'
complete -c twinward -n "__fish_twinward_needs_command" -f -a "status" -d 'Show what the running agent says about itself'
complete -c twinward -n "__fish_twinward_needs_command" -f -a "check" -d 'Check the local configuration or a twin document, and print every problem at once'
complete -c twinward -n "__fish_twinward_needs_command" -f -a "collect" -d 'Print what a collector sees, without a hub'
complete -c twinward -n "__fish_twinward_needs_command" -f -a "baseline" -d 'Check how this machine, or an image, is set up, and say what to do about each fault'
complete -c twinward -n "__fish_twinward_needs_command" -f -a "version" -d 'Print the version and what was built in'
complete -c twinward -n "__fish_twinward_using_subcommand run" -l config -d 'Configuration file; drop-ins are read from `conf.d` beside it' -r -F
complete -c twinward -n "__fish_twinward_using_subcommand run" -l json -d 'Print JSON lines instead of tables'
complete -c twinward -n "__fish_twinward_using_subcommand run" -s h -l help -d 'Print help'
complete -c twinward -n "__fish_twinward_using_subcommand doctor" -l config -d 'Configuration file; drop-ins are read from `conf.d` beside it' -r -F
complete -c twinward -n "__fish_twinward_using_subcommand doctor" -l json -d 'Print JSON lines instead of tables'
complete -c twinward -n "__fish_twinward_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c twinward -n "__fish_twinward_using_subcommand status" -l config -d 'Configuration file; drop-ins are read from `conf.d` beside it' -r -F
complete -c twinward -n "__fish_twinward_using_subcommand status" -l json -d 'Print JSON lines instead of tables'
complete -c twinward -n "__fish_twinward_using_subcommand status" -s h -l help -d 'Print help'
complete -c twinward -n "__fish_twinward_using_subcommand check" -l object -d 'Name of the configuration object in a twin document, if your agents have another twin.object' -r
complete -c twinward -n "__fish_twinward_using_subcommand check" -l config -d 'Configuration file; drop-ins are read from `conf.d` beside it' -r -F
complete -c twinward -n "__fish_twinward_using_subcommand check" -l sample -d 'Print a twinward.toml with every key explained, and check nothing'
complete -c twinward -n "__fish_twinward_using_subcommand check" -l json -d 'Print JSON lines instead of tables'
complete -c twinward -n "__fish_twinward_using_subcommand check" -s h -l help -d 'Print help'
complete -c twinward -n "__fish_twinward_using_subcommand collect" -l for -d 'How long to follow what is streamed: 500ms, 10s, 5m, 2h' -r
complete -c twinward -n "__fish_twinward_using_subcommand collect" -l source -d 'Where process starts are read from' -r -f -a "auto\t'The best one that works'
ebpf\t'Programs of ours in the kernel'
audit\t'The kernel\'s audit records'
connector\t'The kernel\'s process connector'
fanotify\t'The files that are opened to be run'
poll\t'Looking at /proc once a second'"
complete -c twinward -n "__fish_twinward_using_subcommand collect" -l config -d 'Configuration file; drop-ins are read from `conf.d` beside it' -r -F
complete -c twinward -n "__fish_twinward_using_subcommand collect" -l name-service -d 'Lists the accounts of the name service (getent) as local users too'
complete -c twinward -n "__fish_twinward_using_subcommand collect" -l json -d 'Print JSON lines instead of tables'
complete -c twinward -n "__fish_twinward_using_subcommand collect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c twinward -n "__fish_twinward_using_subcommand baseline" -l root -d 'Check the files below this directory, such as those of an unpacked image, instead of this machine' -r -F
complete -c twinward -n "__fish_twinward_using_subcommand baseline" -l checks -d 'Make only the checks of this file, wherever it is: to try one before it goes to /etc/twinward/baseline.d' -r -F
complete -c twinward -n "__fish_twinward_using_subcommand baseline" -l severity -d 'Show no checks that are less severe' -r -f -a "critical\t''
important\t''
warning\t''
informational\t''"
complete -c twinward -n "__fish_twinward_using_subcommand baseline" -l config -d 'Configuration file; drop-ins are read from `conf.d` beside it' -r -F
complete -c twinward -n "__fish_twinward_using_subcommand baseline" -l all -d 'Show the checks that passed, do not apply or are skipped too'
complete -c twinward -n "__fish_twinward_using_subcommand baseline" -l json -d 'Print JSON lines instead of tables'
complete -c twinward -n "__fish_twinward_using_subcommand baseline" -s h -l help -d 'Print help'
complete -c twinward -n "__fish_twinward_using_subcommand version" -l config -d 'Configuration file; drop-ins are read from `conf.d` beside it' -r -F
complete -c twinward -n "__fish_twinward_using_subcommand version" -l json -d 'Print JSON lines instead of tables'
complete -c twinward -n "__fish_twinward_using_subcommand version" -s h -l help -d 'Print help'
