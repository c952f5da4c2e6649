#include <iostream>

#include "list.hpp"

int main() { std::cout << List().length() << std::endl; }
