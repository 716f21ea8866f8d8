package budget

import (
	"math"
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestMemoryLimit_IsTheSmallestThatHolds(t *testing.T) {
	const meminfo = "MemTotal:       24683620 kB\nMemFree:        20622632 kB\n"
	for name, c := range map[string]struct {
		goLimit int64
		files   map[string]string
		want    int64
	}{
		"GOMEMLIMIT": {512 << 20, map[string]string{"proc/meminfo": meminfo}, 512 << 20},
		"version 2": {math.MaxInt64, map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "1073741824\n",
		}, 1 << 30},
		"version 2 in a container": {math.MaxInt64, map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "268435456\n",
		}, 256 << 20},
		"version 1": {math.MaxInt64, map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "5:cpu,memory:/x/y\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n",
		}, 512 << 20},
		"group of more than the machine": {math.MaxInt64, map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 24683620 << 10},
		"another group's": {math.MaxInt64, map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "4:memoryless:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "1\n",
		}, 24683620 << 10},
		"nothing known": {math.MaxInt64, nil, unknownMemory},
		"nonsense": {math.MaxInt64, map[string]string{
			"proc/meminfo": "MemTotal: x kB\nMemTotal:\n", "proc/self/cgroup": "0\n::\n0::/../..\n", "sys/fs/cgroup/memory.max": "-1",
		}, unknownMemory},
	} {
		root := fstest.MapFS{}
		for path, content := range c.files {
			root[path] = &fstest.MapFile{Data: []byte(content)}
		}
		require.Equal(t, c.want, memoryLimit(c.goLimit, root), name)
	}
	require.GreaterOrEqual(t, memoryLimit(math.MaxInt64, os.DirFS("/")), int64(MinBytes), "of this machine")
}
