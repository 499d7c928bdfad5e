"""The cloud API's routes: a module per noun, each a function that makes a blueprint over what it is given."""
