// What a Go program does with files, goroutines and children; printed to be compared with a local run.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"sync"
)

func check(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func main() {
	dir := os.Args[1]
	check(os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755))
	check(os.Chdir(dir))
	where, err := os.Getwd()
	check(err)
	fmt.Println(where == dir)
	var group sync.WaitGroup
	for i := 0; i < 20; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			name := fmt.Sprintf("a/b/%02d", i)
			check(os.WriteFile(name, []byte(fmt.Sprintln("file", i)), 0o640))
			bytes, err := os.ReadFile(name)
			check(err)
			if string(bytes) != fmt.Sprintln("file", i) {
				fmt.Println("wrong bytes in", name)
			}
		}(i)
	}
	group.Wait()
	var names []string
	check(filepath.Walk(".", func(path string, info os.FileInfo, err error) error {
		check(err)
		names = append(names, fmt.Sprint(path, " ", info.Mode()))
		return nil
	}))
	sort.Strings(names)
	for _, name := range names {
		fmt.Println(name)
	}
	file, err := os.OpenFile("log", os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o644)
	check(err)
	for i := 0; i < 3; i++ {
		fmt.Fprintln(file, "line", i)
	}
	_, err = file.Seek(0, io.SeekStart)
	check(err)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fmt.Println(lines.Text())
	}
	check(file.Close())
	command := exec.Command("cat", "log", "a/b/07")
	command.Stdout = os.Stdout
	check(command.Run())
	copied, err := os.Create("copy")
	check(err)
	source, err := os.Open("a/b/11")
	check(err)
	count, err := io.Copy(copied, source)
	check(err)
	check(copied.Close())
	fmt.Println("copied", count)
	check(os.Rename("copy", "a/moved"))
	_, err = os.Stat("copy")
	fmt.Println(err)
	check(os.Chdir("/"))
	check(os.RemoveAll(dir))
	_, err = os.Stat(dir)
	fmt.Println(os.IsNotExist(err))
}
