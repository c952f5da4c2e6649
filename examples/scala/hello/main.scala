@main def hello() = println("Hello from Scala")
