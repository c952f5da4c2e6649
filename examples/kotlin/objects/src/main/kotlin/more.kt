import io.kotest.core.spec.style.StringSpec

class MoreChecks : StringSpec()
