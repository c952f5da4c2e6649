import org.junit.Test

class Checks
