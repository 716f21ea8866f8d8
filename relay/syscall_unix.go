//go:build unix && !linux

package relay

import "syscall"

func read(fd int, p []byte) (n int, err error) { return syscall.Read(fd, p) }

func write(fd int, p []byte) (n int, err error) { return syscall.Write(fd, p) }
