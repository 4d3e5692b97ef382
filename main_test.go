package spool_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// children are the roles that this test binary plays when a test starts it again, by the value of childEnv.
var children = map[string]func(){}

const childEnv = "SPOOL_TEST_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		child, ok := children[role]
		if !ok {
			fmt.Fprintf(os.Stderr, "no child %q\n", role)
			os.Exit(2)
		}
		child()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
