complete --keep-order --exclusive --command workqueuectl --arguments "(COMPLETE=fish workqueuectl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
