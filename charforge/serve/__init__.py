"""Characters for other programs: a server that speaks the interfaces front ends know, and a page of its own."""
