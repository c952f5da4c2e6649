// object Fake { def main(args: Array[String]): Unit = () }
package a.b {
  object Helper {
    def main(count: Int): Int = count
  }

  object Runner {
    def main(args: Array[String]): Unit = {
      println(s"${args.mkString(" ")} ${Helper.main(3)}")
    }
  }
}
