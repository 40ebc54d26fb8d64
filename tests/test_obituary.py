# What a program printed about its own end, in the line that says most.
import pytest

from vfio_user_proto import obituary

ASAN = """\
listening
=================================================================
==77==ERROR: AddressSanitizer: {kind} on address 0x61e0 at pc 0x56 bp 0x7f sp 0x7e
WRITE of size 5 at 0x61e0 thread T0
{stack}

0x61e0 is located 4 bytes inside of 2592-byte region [0x61e0,0x61e9)
freed by thread T0 here:
    #0 0x7f57 in drop /src/other.c:1

SUMMARY: AddressSanitizer: {summary}
==77==ABORTING
"""
LIBRARY = "../../../../src/libsanitizer/sanitizer_common/sanitizer_common_interceptors.inc:827"


def asan(kind: str, stack: str, summary: str) -> str:
    lines = "\n".join(f"    #{number} 0x55e0{number} {frame}" for number, frame in enumerate(stack.split("; ")))
    return ASAN.format(kind=kind, stack=lines, summary=summary)


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("", ""),
        ("all is well", ""),
        (
            asan("heap-use-after-free", "in drop /src/a.c:524; in main /src/a.c:9", "heap-use-after-free /src/a.c:524 in drop"),
            "AddressSanitizer: heap-use-after-free /src/a.c:524 in drop",
        ),
        (
            asan(
                "global-buffer-overflow",
                f"in __interceptor_memcpy {LIBRARY}; in mig_write /src/server.c:488:3; in main /src/server.c:9",
                f"global-buffer-overflow {LIBRARY} in __interceptor_memcpy",
            ),
            "AddressSanitizer: global-buffer-overflow /src/server.c:488:3 in mig_write",
        ),
        (
            asan(
                "SEGV",
                "in __memmove_avx512_unaligned_erms ../sysdeps/x86_64/multiarch/memmove.S:295; in access /src/server.c:431",
                "SEGV ../sysdeps/x86_64/multiarch/memmove.S:295 in __memmove_avx512_unaligned_erms",
            ),
            "AddressSanitizer: SEGV /src/server.c:431 in access",
        ),
        (
            asan(
                "attempting double-free",
                "in __interceptor_free ../libsanitizer/asan/asan_malloc_linux.cpp:52; in drop(conn*, int) ../src/server.cc:7",
                "double-free ../libsanitizer/asan/asan_malloc_linux.cpp:52 in __interceptor_free",
            ),
            "AddressSanitizer: double-free ../src/server.cc:7 in drop(conn*, int)",
        ),
        (
            asan(
                "heap-buffer-overflow",
                "in free (/lib/x86_64-linux-gnu/libasan.so.8+0xb5) (BuildId: a0); in drop (/bin/server+0x12ab) (BuildId: ff)",
                "heap-buffer-overflow (/lib/x86_64-linux-gnu/libasan.so.8+0xb5) (BuildId: a0) in free",
            ),
            "AddressSanitizer: heap-buffer-overflow (/bin/server+0x12ab) in drop",
        ),
        (
            asan("SEGV", "in __interceptor_memcpy /x/libsanitizer/a.inc:1", "SEGV /x/libsanitizer/a.inc:1 in memcpy"),
            "AddressSanitizer: SEGV /x/libsanitizer/a.inc:1 in memcpy",
        ),
        (
            "==5==ERROR: AddressSanitizer: attempting double-free on 0x1\n    #0 0x1 in drop /src/a.c:2",
            "AddressSanitizer: attempting double-free /src/a.c:2 in drop",
        ),
        (
            "==5==ERROR: LeakSanitizer: detected memory leaks\n\nDirect leak of 8 byte(s) in 1 object(s) allocated from:\n"
            "    #0 0x1 in __interceptor_malloc /x/libsanitizer/a.cpp:1\n    #1 0x2 in read_message /src/server.c:120\n\n"
            "SUMMARY: AddressSanitizer: 8 byte(s) leaked in 1 allocation(s).\n",
            "AddressSanitizer: 8 byte(s) leaked in 1 allocation(s). /src/server.c:120 in read_message",
        ),
        (
            "WARNING: ThreadSanitizer: data race (pid=5)\n  Write of size 4 at 0x1 by thread T1:\n"
            "    #0 ring /src/server.c:31 (server+0x12)\n\nSUMMARY: ThreadSanitizer: data race /src/server.c:31 in ring\n",
            "ThreadSanitizer: data race /src/server.c:31 in ring",
        ),
        (
            "a.c:3:5: runtime error: shift exponent 64\nSUMMARY: UndefinedBehaviorSanitizer: undefined-behavior a.c:3:5 in\n",
            "a.c:3:5: runtime error: shift exponent 64",
        ),
        ("Traceback (most recent call last):\n  File 'x'\nKeyError: 5\n", "KeyError: 5"),
    ],
)  # fmt: skip
def test_the_line_that_says_most_names_a_place_of_the_program(printed: str, said: str) -> None:
    assert obituary.report(printed) == said


def test_a_report_is_being_written_until_it_is_summed_up() -> None:
    whole = asan("SEGV", "in f /src/a.c:1", "SEGV /src/a.c:1 in f")
    begun = whole.partition("freed by")[0]

    assert [obituary.dying(each) for each in ("", begun, whole)] == [False, True, True]
    assert [obituary.writing(each) for each in ("", begun, whole, whole + begun)] == [False, True, False, True]
