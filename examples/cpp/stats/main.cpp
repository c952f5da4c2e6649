#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

#include "stats.hpp"

int main() {
    const std::vector<double> values(std::istream_iterator<double>(std::cin), {});
    const std::string summary = stats::summarise(values);
    std::cout << summary;
    std::ofstream("summary.txt") << summary;
}
