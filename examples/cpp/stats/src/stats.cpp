#include "stats.hpp"

#include <iomanip>
#include <numeric>
#include <sstream>

std::string stats::summarise(const std::vector<double>& values) {
    const double sum = std::accumulate(values.begin(), values.end(), 0.0);
    std::ostringstream text;
    text << "count " << values.size() << "\nsum " << sum << "\nmean ";
    text << std::fixed << std::setprecision(2) << sum / values.size() << '\n';
    return text.str();
}
