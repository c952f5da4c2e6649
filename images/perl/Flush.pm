# What was printed and not written yet comes out before the runner kills the program; see flush.c of the C image.
package Execbox::Flush;

$SIG{NUM59} = sub {
    my $chosen = select(STDOUT);
    # Whoever sets it flushes.
    $| = 1;
    select($chosen);
    kill KILL => $$;
};

1;
