"""One file for each verb, which holds a function of the same name; `main.VERBS` lists them."""
