"""What the pages of the device and of the school's server have in common: one stylesheet, a few components, charts, the safe headers.

Nothing here knows what is shown. Templates are compiled and files read when a page is asked for the first time, so that a process nobody
looks at holds none of them.
"""
