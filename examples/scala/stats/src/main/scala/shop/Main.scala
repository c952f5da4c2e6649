package shop

import java.nio.file.{Files, Path}
import scala.io.Source

object Main extends App:
  val summary = Summary.of(Source.stdin.getLines().map(_.trim.toInt).toList)
  print(summary.text)
  Files.writeString(Path.of("summary.txt"), summary.text)
