package integration

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// emulatorName is what this process is called as where it runs programs for arm64.
const emulatorName = "zlayer-arm64-emulator"

// isEmulator reports whether the kernel, or BuildKit, has started this process to run a program.
func isEmulator() bool {
	name := filepath.Base(os.Args[0])
	return name == emulatorName || name == ".buildkit_qemu_emulator"
}

// The instructions that emulate knows, without their operands.
const (
	movz = 0xd2800000 // MOVZ Xd, #imm16
	adr  = 0x10000000 // ADR Xd, label
	svc  = 0xd4000001 // SVC #0
)

// arm64Program is a static program for Linux on arm64 that prints a text and ends with a status.
func arm64Program(text string, status int) []byte {
	const head, base = 64 + 56, 0x400000
	code := []uint32{
		movz | 1<<5,                     // x0: standard output
		adr | 7<<5 | 1,                  // x1: the text, behind the seven instructions from here on
		movz | uint32(len(text))<<5 | 2, // x2
		movz | 64<<5 | 8, svc,           // write
		movz | uint32(status)<<5, movz | 93<<5 | 8, svc, // exit
	}
	size := uint64(head + 4*len(code) + len(text))
	var b bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_AARCH64), Version: uint32(elf.EV_CURRENT), Entry: base + head,
			Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
		},
		elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x1000},
		code, []byte(text),
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err) // into memory, and all sizes are fixed
		}
	}
	return b.Bytes()
}

// emulate runs a program of the few instructions that arm64Program and BuildKit's check for emulators
// are made of, and gives its exit status.
func emulate(file string, stdout io.Writer) (int, error) {
	f, err := elf.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if f.Machine != elf.EM_AARCH64 || len(f.Progs) == 0 {
		return 0, fmt.Errorf("%s is for %s", file, f.Machine)
	}
	memory, err := io.ReadAll(f.Progs[0].Open())
	if err != nil {
		return 0, err
	}
	base := f.Progs[0].Vaddr
	var x [32]uint64
	for pc := f.Entry; pc-base+4 <= uint64(len(memory)); pc += 4 {
		op := binary.LittleEndian.Uint32(memory[pc-base:])
		switch {
		case op&0xffe00000 == movz:
			x[op&31] = uint64(op >> 5 & 0xffff)
		case op&0x9f000000 == adr && op&0x00800000 == 0:
			x[op&31] = pc + uint64(op>>5&0x3ffff)<<2 + uint64(op>>29&3)
		case op == svc && x[8] == 64 && x[0] == 1 && x[1] >= base && x[1]-base+x[2] <= uint64(len(memory)):
			if _, err := stdout.Write(memory[x[1]-base:][:x[2]]); err != nil {
				return 0, err
			}
		case op == svc && x[8] == 93:
			return int(x[0] & 0xff), nil
		default:
			return 0, fmt.Errorf("%s: instruction %#x at %#x is not known", file, op, pc)
		}
	}
	return 0, fmt.Errorf("%s runs out of instructions", file)
}

// emulatorMain is what the process does where it is an emulator.
func emulatorMain() {
	status, err := 1, fmt.Errorf("no program to run")
	if len(os.Args) > 1 {
		status, err = emulate(os.Args[1], os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 127
	}
	os.Exit(status)
}
