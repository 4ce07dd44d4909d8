"""Read models: each file answers one question, from public facts alone. Pure: a fact in, row changes out."""
