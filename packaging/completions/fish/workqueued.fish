complete -c workqueued -l config -d 'Read settings from FILE [default: /etc/workqueue/workqueued.toml for a system user, ~/.config/workqueue/workqueued.toml for an ordinary one, if it is there]' -r -F
complete -c workqueued -l data-dir -d 'Keep tasks in DIR [default: /var/lib/workqueue for a system user, ~/.local/state/workqueue for an ordinary one]' -r -F
complete -c workqueued -l listen -d 'Serve HTTP on ADDR; may be given several times; port 0 picks one, `none` turns TCP off [default: 127.0.0.1:5000]' -r
complete -c workqueued -l admin-socket -d 'Serve the admin API on the Unix socket PATH [default: /run/workqueue/admin.sock for a system user, $XDG_RUNTIME_DIR/workqueue/admin.sock for an ordinary one]' -r -F
complete -c workqueued -l log-level -d 'Log LEVEL and above: error, warn, info, debug, trace, or directives like info,workqueue::engine=debug' -r
complete -c workqueued -l with-worker -d 'Run a worker in this process that writes payloads to a log, for trying it out and for small machines'
complete -c workqueued -l insecure -d 'Listen on addresses that other machines reach, although there are no tokens: everybody may do everything'
complete -c workqueued -l check-config -d 'Read the settings, say whether they are right and where each came from, and end'
complete -c workqueued -s h -l help -d 'Print help (see more with \'--help\')'
complete -c workqueued -s V -l version -d 'Print version'
