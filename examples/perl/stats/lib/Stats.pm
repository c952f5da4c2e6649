package Stats;

use strict;
use warnings;

use Exporter qw(import);
use List::Util qw(sum);

our @EXPORT_OK = qw(summarise);

sub summarise {
    my @values = @_;
    my $sum = sum(@values);
    return sprintf("count %d\nsum %d\nmean %.2f\n", scalar(@values), $sum, $sum / @values);
}

1;
