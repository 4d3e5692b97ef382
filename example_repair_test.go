package spool_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/spoolmq/spool"
)

// A bit has flipped in a message's body. What is whole is recovered; the damaged spool stays beside.
func ExampleRepair() {
	ctx := context.Background()
	parent, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "data")
	exampleDamaged(ctx, dir)

	found, err := spool.Verify(ctx, dir)
	if err != nil {
		log.Fatal(err)
	}
	if !found.OK() {
		report, err := spool.Repair(ctx, dir, dir)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("lost:", report.LostCount, "kept:", filepath.Base(report.Kept))
	}

	s, err := spool.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	orders, err := s.Queue("orders")
	if err != nil {
		log.Fatal(err)
	}
	for d, err := range orders.Deliveries(ctx, spool.Wait(0)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", d.Body)
	}
	// Output:
	// lost: 1 kept: data.damaged-1
	// order 1
	// order 3
}

// exampleDamaged makes a spool with three messages, of which the second one is damaged.
func exampleDamaged(ctx context.Context, dir string) {
	s, err := spool.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	orders, err := s.CreateQueue(ctx, "orders", spool.Meta{})
	if err != nil {
		log.Fatal(err)
	}
	for i := range 3 {
		if _, err := orders.Send(ctx, spool.Message{Body: fmt.Appendf(nil, "order %d", i+1)}); err != nil {
			log.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(name, bytes.Replace(data, []byte("order 2"), []byte("order 6"), 1), 0o600); err != nil {
			log.Fatal(err)
		}
	}
}
