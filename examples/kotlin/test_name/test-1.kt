@file:JvmName("Greeter")

package shop.hello

import kotlinx.coroutines.delay

class Greeter2 {
    companion object {
        fun main(count: Int) = count
    }
}

suspend fun main() {
    delay(1)
    println("hi ${readln()} ${Greeter2.main(3)}")
}
