/* fun main() = println("comment") */
object Other {
    fun main(args: Array<String>) = println(args)
}

object Runner {
    @JvmStatic
    fun main(args: Array<String>) = println(args.joinToString(","))
}
