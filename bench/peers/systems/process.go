package systems

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	serverStart = 60 * time.Second // it reads its log
	serverStop  = 30 * time.Second
)

// A process is a program that runs as long as its store is open. It listens on a socket in a directory of its own and
// dies with this process.
type process struct {
	cmd    *exec.Cmd
	socket string
	said   bytes.Buffer
	ended  chan error
}

// serve starts a program; args gets the socket it has to listen on.
func serve(program string, args func(socket string) []string) (*process, error) {
	dir, err := os.MkdirTemp("", "peer") // a socket's path must be short
	if err != nil {
		return nil, err
	}
	s := &process{socket: filepath.Join(dir, "s"), ended: make(chan error, 1)}
	s.cmd = exec.Command(program, args(s.socket)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	s.cmd.SysProcAttr = withParent()
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() { s.ended <- s.cmd.Wait() }()
	for deadline := time.Now().Add(serverStart); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("unix", s.socket)
		if err == nil {
			return s, c.Close()
		}
		select {
		case err := <-s.ended:
			return nil, fmt.Errorf("%s ended: %v: %s", program, err, s.said.Bytes())
		default:
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("%s does not listen after %v: %w", program, serverStart, err), s.stop())
		}
	}
}

// stop asks the program to end and waits for it.
func (s *process) stop() error {
	defer os.RemoveAll(filepath.Dir(s.socket))
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.ended:
		return nil
	case <-time.After(serverStop):
		return errors.Join(fmt.Errorf("%s did not end in %v", s.cmd.Path, serverStop), s.cmd.Process.Kill())
	}
}
