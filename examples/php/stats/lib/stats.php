<?php
declare(strict_types=1);

namespace Stats;

function summarise(array $values): string
{
    $sum = array_sum($values);
    return sprintf("count %d\nsum %d\nmean %.2f\n", count($values), $sum, $sum / count($values));
}
