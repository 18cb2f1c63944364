"""One file per data format; the file's name is the format's `kind` in a recipe.

A format has

    Config                               the names of its columns, and what else there is to choose
    EXAMPLE                              a record
    fits(record) -> bool                 whether a record looks like it, under the default names of the columns
    convert(record, config) -> list[Draft] | Bad

`convert` takes any JSON object and never raises: what it cannot read becomes a Bad with its reason. The order of
roles and blank texts are looked at later, for all formats alike. A format of questions that nobody has answered
says `HAS_ANSWERS = False`. A format without `fits` works, but `auto` never finds it.
"""
