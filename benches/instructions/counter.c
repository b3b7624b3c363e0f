/* A plugin for QEMU's user emulation that counts the instructions a program executes between two of its calls of getppid,
 * and says in which functions. What is counted are blocks of translated code, each with its number of instructions: exact
 * for one thread, as long as no signal ends a block early.
 *
 *     cc -shared -fPIC -O2 -o counter.so counter.c
 *     qemu-aarch64 -plugin ./counter.so,out=FILE PROGRAM
 *
 * FILE has the sum first, then a line for each function. Only those of the program itself have names: QEMU does not read
 * the symbols of libraries. The declarations are those of QEMU's plugin API, which has no header in Debian's packages.
 */

#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), enum qemu_plugin_cb_flags,
                                          void *);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t,
                                          uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));

/* Of the API: QEMU 4.2 to 8. */
__attribute__((visibility("default"))) int qemu_plugin_version = 1;

/* Of AArch64. */
enum { GETPPID = 173 };

struct function {
    char *name;
    uint64_t instructions;
};

struct block {
    struct function *function;
    uint64_t instructions;
};

static const char *out;
static void *functions;
static int marks;

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct function *)a)->name, ((const struct function *)b)->name);
}

static struct function *find(const char *name) {
    struct function *new = calloc(1, sizeof *new);
    new->name = strdup(name && *name ? name : "?");
    struct function *found = *(struct function **)tsearch(new, &functions, by_name);
    if (found != new) {
        free(new->name);
        free(new);
    }
    return found;
}

static void executed(unsigned cpu, void *data) {
    const struct block *block = data;
    if (marks == 1)
        block->function->instructions += block->instructions;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    struct block *block = malloc(sizeof *block);
    block->function = find(qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(tb, 0)));
    block->instructions = qemu_plugin_tb_n_insns(tb);
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, QEMU_PLUGIN_CB_NO_REGS, block);
}

static uint64_t sum;

static void add(const void *node, VISIT visit, int depth) {
    if (visit == postorder || visit == leaf)
        sum += (*(struct function *const *)node)->instructions;
}

static FILE *report;

static void print(const void *node, VISIT visit, int depth) {
    const struct function *function = *(struct function *const *)node;
    if ((visit == postorder || visit == leaf) && function->instructions)
        fprintf(report, "%" PRIu64 " %s\n", function->instructions, function->name);
}

static void called(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    if (number != GETPPID || ++marks != 2)
        return;
    report = fopen(out, "w");
    if (!report) {
        perror(out);
        exit(1);
    }
    twalk(functions, add);
    fprintf(report, "%" PRIu64 "\n", sum);
    twalk(functions, print);
    fclose(report);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc,
                                                               char **argv) {
    if (argc != 1 || strncmp(argv[0], "out=", 4)) {
        fprintf(stderr, "counter: give out=FILE\n");
        return 1;
    }
    out = strdup(argv[0] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
