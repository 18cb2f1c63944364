"""One file per data format; the file's name is the format's `kind` in a recipe.

A format has

    Config                               the names of its columns, and other options
    EXAMPLE                              a record
    fits(record) -> bool                 whether a record looks like it, under the default names of the columns
    convert(record, config) -> list[Draft]

`convert` takes any JSON object. It raises (or returns) a Bad with the reason where it cannot read a record, and no
other error; `data.drafts` has Draft, Bad and functions that read texts and turns. Order of roles and blank texts are
checked later, for all formats alike; the Draft of a question without an answer says `is_answered=False`. A format
without `fits` works, but `auto` never finds it. `auto` itself has a Config only: reading replaces it for each file.
"""
