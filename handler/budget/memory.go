package budget

import (
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// One memoryPart-th of the memory limit is the default size of a budget. The rest is for garbage that is not collected yet,
// and for everything but messages.
const memoryPart = 4

// unknownMemory is taken for the memory of a machine whose memory cannot be found out.
const unknownMemory = 4 << 30

// DefaultBytes returns a quarter of the memory that the process may use, but at least MinBytes. The process may use
// GOMEMLIMIT if it is set, else the smaller of its control group's limit and the machine's memory.
func DefaultBytes() int64 {
	return max(memoryLimit(debug.SetMemoryLimit(-1), os.DirFS("/"))/memoryPart, MinBytes)
}

// memoryLimit returns the memory limit. goLimit is GOMEMLIMIT, math.MaxInt64 if it is not set.
func memoryLimit(goLimit int64, root fs.FS) int64 {
	if goLimit < math.MaxInt64 {
		return goLimit
	}
	limit := min(controlGroupLimit(root), machineMemory(root))
	if limit == math.MaxInt64 {
		return unknownMemory
	}
	return limit
}

// controlGroupLimit returns the smallest limit of the process's control group (version 1 or 2) and of the groups that
// contain it; math.MaxInt64 if there is none. In a container the path of the group may be the one outside of the container,
// while the group's files are at the root: so all folders up to the root are read.
func controlGroupLimit(root fs.FS) int64 {
	limit := int64(math.MaxInt64)
	groups, _ := fs.ReadFile(root, "proc/self/cgroup") // lines of id:controllers:path; none where there are no groups
	for line := range strings.Lines(string(groups)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, _ := strings.Cut(rest, ":")
		mount, file := "sys/fs/cgroup", "memory.max"
		if controllers != "" {
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		if controllers != "" && !strings.Contains(","+controllers+",", ",memory,") {
			continue
		}
		for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
			limit = min(limit, number(root, path.Join(mount, dir, file)))
			if dir == "/" {
				break
			}
		}
	}
	return limit
}

// number returns the number in a file; math.MaxInt64 if the file has none, or one that is not positive.
func number(root fs.FS, name string) int64 {
	b, _ := fs.ReadFile(root, name)
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64) // "max" is none
	if err != nil || n <= 0 {
		return math.MaxInt64
	}
	return n
}

// machineMemory returns the memory of the machine, on Linux; math.MaxInt64 elsewhere.
func machineMemory(root fs.FS) int64 {
	info, _ := fs.ReadFile(root, "proc/meminfo")
	for line := range strings.Lines(string(info)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemTotal:" {
			if kib, err := strconv.ParseInt(fields[1], 10, 64); err == nil && kib > 0 {
				return kib << 10
			}
		}
	}
	return math.MaxInt64
}
