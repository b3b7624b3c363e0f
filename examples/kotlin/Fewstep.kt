// Plan files sampled from Kotlin, on Android or a computer, over the C interface: rules of docs/c.md. fewstep_jni.c is the other half.
package org.fewstep

import java.io.Closeable
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** What a call has to say; [status] is a `fewstep_status`. */
class FewstepException(val status: Int, message: ByteArray) : Exception(String(message, Charsets.UTF_8))

/** A plan file, mapped into memory. Any number of threads and sessions may use it, and it may be closed before these. */
class Plan(path: String) : Closeable {
    internal var handle = Native.planOpen(text(path))
        private set

    /** Compares the weights with their checksum, which reads them all. */
    fun verify() = Native.planVerify(handle)

    override fun close() {
        Native.planClose(handle)
        handle = 0
    }
}

/**
 * A model that is ready to be sampled. It may move between threads, but one at a time may use it.
 *
 * @param threads 0 for as many as the CPU runs at once, 1 for none but the caller's
 * @param steps network evaluations a sample, 0 for the plan's
 * @param seed of the first sample's noise; the next sample has the next seed
 */
class Session(plan: Plan, threads: Int = 0, steps: Int = 0, seed: Long = 0) : Closeable {
    private var handle = Native.sessionNew(plan.handle, threads, steps, seed)

    /** A sample's dimensions. */
    val shape: LongArray = Native.sessionShape(handle)

    /** Values of a sample. */
    val elements: Int = shape.fold(1L, Long::times).toInt()

    private val values = ByteBuffer.allocateDirect(elements * 4).order(ByteOrder.nativeOrder())

    /** Sets a condition for the samples to come: one value for all its elements, or one for each. */
    fun setCondition(name: String, vararg values: Double) = Native.sessionSetCondition(handle, text(name), values)

    /** Sets the seed of the next sample's noise. */
    fun setSeed(seed: Long) = Native.sessionSetSeed(handle, seed)

    /** Draws one sample into a direct buffer of exactly [elements] floats in the native order, without a copy. */
    fun sample(out: ByteBuffer) = Native.sessionSample(handle, out)

    /** Draws one sample. */
    fun sample(): FloatArray {
        sample(values)
        return FloatArray(elements).also { values.asFloatBuffer().get(it) }
    }

    override fun close() {
        Native.sessionFree(handle)
        handle = 0
    }
}

/** As C has it: UTF-8 that ends in a zero. */
private fun text(words: String) = words.toByteArray() + 0

/** The functions of fewstep_jni.c. A handle is a pointer, 0 for one that is closed. */
internal object Native {
    init {
        System.loadLibrary("fewstep_jni")
    }

    external fun planOpen(path: ByteArray): Long
    external fun planVerify(plan: Long)
    external fun planClose(plan: Long)
    external fun sessionNew(plan: Long, threads: Int, steps: Int, seed: Long): Long
    external fun sessionShape(session: Long): LongArray
    external fun sessionSetCondition(session: Long, name: ByteArray, values: DoubleArray)
    external fun sessionSetSeed(session: Long, seed: Long)
    external fun sessionSample(session: Long, out: ByteBuffer)
    external fun sessionFree(session: Long)
}
