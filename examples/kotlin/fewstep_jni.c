// What Fewstep.kt calls: the C interface for a Java virtual machine. With the static library, all is in one shared library:
//
//     cc -shared -fPIC fewstep_jni.c $(pkg-config --cflags --libs fewstep) -I JDK/include -I JDK/include/linux -o libfewstep_jni.so
//
// Android's NDK has jni.h among its own headers.
#include <fewstep.h>
#include <jni.h>
#include <string.h>

#define NATIVE(type, name) JNIEXPORT type JNICALL Java_org_fewstep_Native_##name

static void *pointer(jlong handle) { return (void *)(intptr_t)handle; }

static jlong handle(void *pointer) { return (jlong)(intptr_t)pointer; }

// Leaves an exception for the caller where a call has failed; if there is no memory for one, the machine has left its own.
static void check(JNIEnv *env, fewstep_status status) {
    if (status == FEWSTEP_OK) return;
    const char *words = fewstep_last_error();
    jsize length = (jsize)strlen(words);
    jclass type = (*env)->FindClass(env, "org/fewstep/FewstepException");
    if (!type) return;
    jmethodID make = (*env)->GetMethodID(env, type, "<init>", "(I[B)V");
    if (!make) return;
    jbyteArray message = (*env)->NewByteArray(env, length);
    if (!message) return;
    (*env)->SetByteArrayRegion(env, message, 0, length, (const jbyte *)words);
    jobject exception = (*env)->NewObject(env, type, make, (jint)status, message);
    if (exception) (*env)->Throw(env, exception);
}

NATIVE(jlong, planOpen)(JNIEnv *env, jobject self, jbyteArray path) {
    (void)self;
    fewstep_plan *plan = NULL;
    jbyte *text = (*env)->GetByteArrayElements(env, path, NULL);
    if (!text) return 0;
    fewstep_status status = fewstep_plan_open((const char *)text, &plan);
    (*env)->ReleaseByteArrayElements(env, path, text, JNI_ABORT);
    check(env, status);
    return handle(plan);
}

NATIVE(void, planVerify)(JNIEnv *env, jobject self, jlong plan) {
    (void)self;
    check(env, fewstep_plan_verify(pointer(plan)));
}

NATIVE(void, planClose)(JNIEnv *env, jobject self, jlong plan) {
    (void)env, (void)self;
    fewstep_plan_close(pointer(plan));
}

NATIVE(jlong, sessionNew)(JNIEnv *env, jobject self, jlong plan, jint threads, jint steps, jlong seed) {
    (void)self;
    fewstep_session *session = NULL;
    fewstep_options options = {.threads = (size_t)threads, .steps = (size_t)steps, .seed = (uint64_t)seed};
    check(env, fewstep_session_new(pointer(plan), &options, &session));
    return handle(session);
}

NATIVE(jlongArray, sessionShape)(JNIEnv *env, jobject self, jlong session) {
    (void)self;
    size_t dims[8], rank = 0;
    fewstep_status status = fewstep_session_shape(pointer(session), dims, sizeof dims / sizeof *dims, &rank);
    check(env, status);
    jlongArray shape = status == FEWSTEP_OK ? (*env)->NewLongArray(env, (jsize)rank) : NULL;
    for (size_t i = 0; shape && i < rank; i++) {
        jlong dim = (jlong)dims[i];
        (*env)->SetLongArrayRegion(env, shape, (jsize)i, 1, &dim);
    }
    return shape;
}

NATIVE(void, sessionSetCondition)(JNIEnv *env, jobject self, jlong session, jbyteArray name, jdoubleArray values) {
    (void)self;
    jsize count = (*env)->GetArrayLength(env, values);
    jbyte *text = (*env)->GetByteArrayElements(env, name, NULL);
    if (!text) return;
    jdouble *numbers = (*env)->GetDoubleArrayElements(env, values, NULL);
    if (numbers) {
        fewstep_status status = fewstep_session_set_condition(pointer(session), (const char *)text, numbers, (size_t)count);
        (*env)->ReleaseDoubleArrayElements(env, values, numbers, JNI_ABORT);
        check(env, status);
    }
    (*env)->ReleaseByteArrayElements(env, name, text, JNI_ABORT);
}

NATIVE(void, sessionSetSeed)(JNIEnv *env, jobject self, jlong session, jlong seed) {
    (void)self;
    check(env, fewstep_session_set_seed(pointer(session), (uint64_t)seed));
}

// A buffer that is not direct has no address, which is an error as any other null pointer.
NATIVE(void, sessionSample)(JNIEnv *env, jobject self, jlong session, jobject out) {
    (void)self;
    float *values = (*env)->GetDirectBufferAddress(env, out);
    jlong bytes = (*env)->GetDirectBufferCapacity(env, out);
    check(env, fewstep_session_sample(pointer(session), NULL, values, values ? (size_t)bytes / sizeof *values : 0));
}

NATIVE(void, sessionFree)(JNIEnv *env, jobject self, jlong session) {
    (void)env, (void)self;
    fewstep_session_free(pointer(session));
}
