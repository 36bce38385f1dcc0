complete -c workqueue-worker -l config -d 'The configuration file' -r -F
complete -c workqueue-worker -l instance -d 'Read workers/NAME.toml beside the default configuration file; where there is none, the default one, for queue NAME' -r
complete -c workqueue-worker -s u -l url -d 'Where the daemon is: http://HOST:PORT, https://HOST or unix:PATH [default: http://localhost:5000]' -r
complete -c workqueue-worker -l ca-file -d 'Trust the certificates in FILE (PEM) and no others, where the URL begins with https://' -r -F
complete -c workqueue-worker -l certificate-file -d 'Show the certificate in FILE (PEM) to a daemon whose URL begins with https://' -r -F
complete -c workqueue-worker -l key-file -d 'The private key of that certificate (PEM)' -r -F
complete -c workqueue-worker -s d -l delay -d 'Seconds to wait between the end of a task and the next claim [default: 0]' -r
complete -c workqueue-worker -s f -l logfile -d 'Write payloads as lines to this file' -r -F
complete -c workqueue-worker -l queue -d 'Take tasks of this queue; may be given several times [default: default]' -r
complete -c workqueue-worker -l concurrency -d 'Tasks at once, 1 to 1000 [default: 1]' -r
complete -c workqueue-worker -l until-empty -d 'End with 0 when nothing is due'
complete -c workqueue-worker -l check-config -d 'Check the configuration and end'
complete -c workqueue-worker -s h -l help -d 'Print help (see more with \'--help\')'
complete -c workqueue-worker -s V -l version -d 'Print version'
