"""The whole of Carrel on one machine: what `make run` and `make demo` do.

    __main__     the two commands
    run          starts the stack, says how to try it, and keeps it until it is told to stop
    demo         the same in a throw-away folder, with real study records, offline and online, until both databases agree
    stack        PostgreSQL, cloud API, daemon: what is started in which order, and stopped the other way round
    place        where a stack lives: its folder, its two addresses, the environment of its processes
    seeding      a school with a course, a class and people
    replay       a review log as requests to the localhost API
    compare      the rows of both databases, side by side
    processes    child processes; interrupts; client; device_file; display: what the above are made of

This package belongs to the source tree: it needs `seeds/`, which no wheel contains. Nothing imports it.
"""
