// Command hello is built into an image by the tests. os/user is linked to the C library unless cgo is off.
package main

import (
	"os"
	"os/user"
)

var version = "development"

func main() {
	_, _ = user.Lookup("root")
	os.Stdout.WriteString("hello " + version + "\n")
}
