"""Layer 6: the command line; one file for each verb in `verbs`, and what `show` prints in `views`."""
