package shop

import org.scalatest.funsuite.AnyFunSuite

class Checks extends AnyFunSuite
