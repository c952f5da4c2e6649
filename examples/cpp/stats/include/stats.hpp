#pragma once

#include <string>
#include <vector>

namespace stats {
std::string summarise(const std::vector<double>& values);
}
