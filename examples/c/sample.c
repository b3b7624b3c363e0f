// Draws one sample of a plan file with the C interface: sample PLAN.fsp [NAME=VALUE]...
#include <fewstep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(fewstep_status status) {
    if (status == FEWSTEP_OK) return;
    fprintf(stderr, "error %d: %s\n", status, fewstep_last_error());
    exit(1);
}

int main(int count, char **arguments) {
    if (count < 2) return fprintf(stderr, "give a plan file\n"), 2;
    fewstep_plan *plan;
    check(fewstep_plan_open(arguments[1], &plan));
    fewstep_options options = {.threads = 1, .seed = 42};
    fewstep_session *session;
    check(fewstep_session_new(plan, &options, &session));
    for (int i = 2; i < count; i++) {
        char *value = strchr(arguments[i], '=');
        if (!value) return fprintf(stderr, "a condition is NAME=VALUE\n"), 2;
        *value = 0;
        double number = strtod(value + 1, NULL);
        check(fewstep_session_set_condition(session, arguments[i], &number, 1));
    }
    size_t elements = fewstep_session_elements(session);
    float *sample = malloc(elements * sizeof *sample);
    if (!sample) return 1;
    check(fewstep_session_sample(session, NULL, sample, elements));
    for (size_t i = 0; i < elements; i++) printf("%.9g\n", sample[i]);
    free(sample);
    fewstep_session_free(session);
    fewstep_plan_close(plan);
}
