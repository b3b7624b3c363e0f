// Draws one sample of a plan file with the C++ wrapper: sample PLAN.fsp [NAME=VALUE]...
#include <cstdio>
#include <fewstep.hpp>

int main(int count, char **arguments) try {
    if (count < 2) return std::fprintf(stderr, "give a plan file\n"), 2;
    fewstep::Options options;
    options.threads = 1;
    options.seed = 42;
    fewstep::Session session(fewstep::Plan(arguments[1]), options);
    for (int i = 2; i < count; i++) {
        const std::string argument = arguments[i];
        const auto at = argument.find('=');
        if (at == std::string::npos) return std::fprintf(stderr, "a condition is NAME=VALUE\n"), 2;
        session.set_condition(argument.substr(0, at), std::stod(argument.substr(at + 1)));
    }
    for (float value : session.sample()) std::printf("%.9g\n", value);
} catch (const std::exception &error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
