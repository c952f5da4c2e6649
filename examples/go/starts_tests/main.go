package main

import (
	"fmt"
	"os/exec"
	"strings"
)

func main() {
	output, err := exec.Command("go", "test", "./...").CombinedOutput()
	fmt.Println(strings.Fields(string(output))[:2], err)
}
