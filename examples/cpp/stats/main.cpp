#include <iostream>
#include <iterator>
#include <vector>

#include "stats.hpp"

int main() {
    const std::vector<double> values(std::istream_iterator<double>(std::cin), {});
    std::cout << stats::summarise(values);
}
